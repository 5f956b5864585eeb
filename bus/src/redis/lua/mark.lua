-- Writes something, so that whoever waits on this connection waits for all that was recorded before.
redis.call('HSET', META, 'marked', int(part.now))
