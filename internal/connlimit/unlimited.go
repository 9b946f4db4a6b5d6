package connlimit

// unlimited is more files than a server needs.
const unlimited = 1 << 30
