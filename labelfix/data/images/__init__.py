"""Images: decoded once into a memory map, and small pictures of them; the only package with Pillow."""
