-- Tells a partition how many its queue has; answers how many it has, which is another number where it holds events.
-- args: 1: how many
if part.partitions and part.partitions ~= args[1] and part.seq > 0 then return tonumber(part.partitions) end
redis.call('HSET', META, 'partitions', args[1])
return tonumber(args[1])
