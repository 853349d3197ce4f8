"""What all reports share: the page, common sections, and the one module of verdict sentences."""
