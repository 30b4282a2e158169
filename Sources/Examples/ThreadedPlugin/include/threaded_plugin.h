/* Nothing links this library: it is reached by path. */
