"""The work of marey: from video files to tables. Knows nothing of Prefect."""
