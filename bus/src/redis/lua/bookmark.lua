-- Opens a bookmark, or makes it. KEYS: the user's bookmarks. ARGV: name, filter, holder, now, how long one is kept, the
-- most there may be. Answers {cursor or nil}; 0: there are too many.
local key, name, now, life = KEYS[1], ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])

local function is_kept(used)
  return used and tonumber(used) >= now - life
end

local function forget(one)
  redis.call('HDEL', key, 'c' .. one, 'f' .. one, 'h' .. one, 'u' .. one)
end

if not is_kept(redis.call('HGET', key, 'u' .. name)) then
  forget(name)
  local fields, count = redis.call('HGETALL', key), 0
  for at = 1, #fields, 2 do
    if string.sub(fields[at], 1, 1) == 'u' then
      if is_kept(fields[at + 1]) then
        count = count + 1
      else
        forget(string.sub(fields[at], 2))
      end
    end
  end
  if count >= tonumber(ARGV[6]) then
    return 0
  end
end
redis.call('HSET', key, 'f' .. name, ARGV[2], 'h' .. name, ARGV[3], 'u' .. name, ARGV[4])
redis.call('PEXPIRE', key, ARGV[5])
return { redis.call('HGET', key, 'c' .. name) }
