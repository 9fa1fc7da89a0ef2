"""How the embedded `shapes` checkpoint was made: data set, networks, evaluation."""
