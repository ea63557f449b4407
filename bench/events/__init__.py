"""Event models measured on folders of clips: cross-validation, and untrimmed videos joined from the clips."""
