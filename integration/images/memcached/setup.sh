user memcache 11211 /nonexistent
