"""A COCO file, put together picture by picture and box by box."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class CocoFile:
    """Ids count from 1; a label that is not among the categories yet becomes the next one."""

    category_ids: dict[str, int] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add_image(self, file_name: str, size: tuple[int, int], **more: Any) -> None:
        """Add a picture; `more` are keys besides those of COCO."""
        shape = {"width": size[0], "height": size[1]}
        self.images.append({"id": len(self.images) + 1, "file_name": file_name, **shape, **more})

    def add_box(
        self, image_id: int, label: str, sides: tuple[float, float, float, float], **more: Any
    ) -> None:
        """Add a box, xyxy in pixels; `more` are further keys."""
        x1, y1, x2, y2 = sides
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image_id,
                "category_id": self.category_ids.setdefault(label, len(self.category_ids) + 1),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                **more,
            }
        )

    def text(self, **more: Any) -> str:
        """The file; `more` are lists besides those of COCO."""
        categories = [{"id": number, "name": name} for name, number in self.category_ids.items()]
        parts = {"images": self.images, "categories": categories, "annotations": self.annotations}
        return json.dumps(more | parts, ensure_ascii=False)
