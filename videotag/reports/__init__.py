"""Pages and pictures for people: of tags, of an evaluation, of an exported model."""
