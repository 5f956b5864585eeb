-- Builds a part of the view: the last events of keys, as far as nobody recorded a later one meanwhile.
-- args: 1: the lineage in which they were found, 2: '1': that was all; then the position and the key's digest of each
-- Answers 0 where the lineage is another one: it must be built from the beginning.
if part.lineage ~= args[1] then return 0 end
if #args > 2 then redis.call('ZADD', VIEW, 'GT', unpack(args, 3)) end
if args[2] == '1' then
    redis.call('HDEL', META, 'view')
    if part.floor <= part.seq then
        -- The last event has a place in it even if nobody can read its key.
        local last = redis.call('ZREVRANGE', VIEW, 0, 0, 'WITHSCORES')
        if tonumber(last[2]) ~= part.seq then redis.call('ZADD', VIEW, int(part.seq), '') end
    end
    redis.call('ZREMRANGEBYSCORE', VIEW, '-inf', '(' .. int(part.floor))
end
return 1
