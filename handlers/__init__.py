"""Who answers: one package per contract. Slices never import each other."""
