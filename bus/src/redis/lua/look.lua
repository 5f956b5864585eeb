-- Looks at a partition; answers whether its dedupe window is cut short.
-- A stream that is gone while its meta is there was deleted: nothing of it is kept.
if part.floor <= part.seq and redis.call('EXISTS', STREAM) == 0 then
    part.floor = part.seq + 1
    redis.call('HSET', META, 'floor', int(part.floor))
end
return redis.call('HGET', META, 'cut_short')
