// Turns after which a long loop is taken up again by an outer one: some lavapipe versions stop loops beyond 30,000 turns. The
// order of what the loop does stays the same.
const BLOCK = 16384u;
