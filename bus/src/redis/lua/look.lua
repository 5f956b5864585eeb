-- Looks at a partition; answers whether its dedupe window is cut short, how many bytes its events have, and how many wait
-- for their time.
-- A stream that is gone while its meta is there was deleted: nothing of it is kept.
if part.floor <= part.seq and redis.call('EXISTS', STREAM) == 0 then forget_log(part.seq + 1) end
return { redis.call('HGET', META, 'cut_short') or '', int(part.bytes - part.freed), part.waiting }
