-- Puts a bookmark from another bus, unless there is one by its name. KEYS: the user's bookmarks. ARGV: name, filter, holder, when it
-- was used, how long one is kept, cursor or ''.
local key, name = KEYS[1], ARGV[1]
if redis.call('HEXISTS', key, 'u' .. name) == 1 then
  return 0
end
redis.call('HSET', key, 'f' .. name, ARGV[2], 'h' .. name, ARGV[3], 'u' .. name, ARGV[4])
if ARGV[6] ~= '' then
  redis.call('HSET', key, 'c' .. name, ARGV[6])
end
redis.call('PEXPIRE', key, ARGV[5])
return 1
