"""Update rules: one file a family, holding the equation, its source and its public class."""
