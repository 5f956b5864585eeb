-- Moves a bookmark for its holder. KEYS: the user's bookmarks. ARGV: name, holder, cursor, now, how long one is kept.
-- Answers 1; 0: somebody else holds it; -1: there is none.
local key, name = KEYS[1], ARGV[1]
local kept = redis.call('HMGET', key, 'h' .. name, 'u' .. name)
if not kept[1] or not kept[2] or tonumber(kept[2]) < tonumber(ARGV[4]) - tonumber(ARGV[5]) then
  return -1
end
if kept[1] ~= ARGV[2] then
  return 0
end
redis.call('HSET', key, 'c' .. name, ARGV[3], 'u' .. name, ARGV[4])
redis.call('PEXPIRE', key, ARGV[5])
return 1
