"""Images and sound: opened, measured, compared."""
