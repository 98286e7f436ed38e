package keys

// LimitSessions makes a token key sign with at most n sessions at a time.
func LimitSessions(k *TokenKey, n int) {
	k.token.mu.Lock()
	defer k.token.mu.Unlock()
	k.token.limit = n
	for len(k.token.idle) > n {
		last := len(k.token.idle) - 1
		k.token.lib.c.closeSession(k.token.idle[last])
		k.token.idle, k.token.open = k.token.idle[:last], k.token.open-1
	}
}
