-- Records a piece of what is due, in the order of its time, then of its arrival.
-- args: 1: the queue; 2: the most events of the dedupe window; 3: how far it reaches back, in milliseconds; 4: '1': each
--       key's last event is known; 5: the most events, 6: bytes of a piece
-- Answers how many were recorded, how many waited and are not there any more, and 1 if more is due.
opens(args[1], args[2], args[3], args[4] == '1')
local count = redis.call('ZCARD', WAITING)
if count == 0 and part.waiting == 0 then return { 0, 0, 0 } end
local waiting = redis.call('HLEN', EVENTS)
-- Somebody deleted them.
local lost = math.max(part.waiting - waiting, 0)
if lost > 0 then tell('SCHEDULED_LOST', { count = lost }) end
if waiting > count then
    -- Somebody deleted the order of what waits: it is made again.
    local at = '0'
    repeat
        local found = redis.call('HSCAN', EVENTS, at, 'COUNT', 256)
        at = found[1]
        for i = 1, #found[2], 2 do
            local due, arrival = found[2][i + 1]:match('^(%d+):(%d+):')
            redis.call('ZADD', WAITING, due, turn(tonumber(arrival), found[2][i]))
        end
    until at == '0'
end

local bytes, turns, gone = 0, {}, {}
for _, found in ipairs(redis.call('ZRANGEBYSCORE', WAITING, '-inf', int(part.now), 'LIMIT', 0, tonumber(args[5]))) do
    if bytes >= tonumber(args[6]) then break end
    local digest = found:sub(17)
    local stored = redis.call('HGET', EVENTS, digest)
    turns[#turns + 1] = found
    -- The turn of one that is lost, and was published again, is another one's.
    if stored and is_its_turn(stored, found) then
        local _, key = stored:find('^%d+:%d+:')
        local event = stored:sub(key + 17)
        record(digest, stored:sub(key + 1, key + 16), event)
        bytes = bytes + #event
        gone[#gone + 1] = digest
    end
end
if #turns > 0 then redis.call('ZREM', WAITING, unpack(turns)) end
if #gone > 0 then redis.call('HDEL', EVENTS, unpack(gone)) end
append({})
part.waiting = redis.call('HLEN', EVENTS)
redis.call('HSET', META, 'waiting', int(part.waiting))
return { #gone, lost, redis.call('ZCOUNT', WAITING, '-inf', int(part.now)) > 0 and 1 or 0 }
