-- Where an event is: recorded, or waiting for its time.
-- args: 1: its digest; 2: how far the dedupe window reaches back, in milliseconds; 3: '1': it is not to wait any more
-- Answers its position or 0, and when it is due, or was until now, or 0.
opens('', 0, args[2], false)
local found = redis.call('HGET', DEDUPE, args[1])
local position = found and within(found) or 0
local stored = part.waiting > 0 and redis.call('HGET', EVENTS, args[1])
if not stored then return { position, 0 } end
local due, arrival = stored:match('^(%d+):(%d+):')
if args[3] == '1' then
    redis.call('HDEL', EVENTS, args[1])
    redis.call('ZREM', WAITING, turn(tonumber(arrival), args[1]))
    part.waiting = part.waiting - 1
    redis.call('HSET', META, 'waiting', int(part.waiting))
end
return { position, tonumber(due) }
