"""The policies that ship with poisonsim, one file each, written as a user would write them."""
