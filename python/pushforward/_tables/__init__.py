"""Tables with categories, whole numbers, dates and gaps: their schema, their coding, the models behind `TableFlow`."""
