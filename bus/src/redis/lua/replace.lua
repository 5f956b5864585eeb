-- Stores a text in the place of the one that was read, if that is still there.
-- KEYS: 1: the hash; ARGV: 1: the field; 2: what was read, '' for nothing; 3: what shall be there
-- Answers 1 where it is, else 0.
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
