-- Records events of which nothing else is asked: no lineage, number or version, no time to wait for, no limit to keep to, and
-- no two of them are the same. One that was recorded before, or waits, is more than that: then nothing is recorded.
-- args: 1: the queue; 2: the most events of the dedupe window; 3: the queue's shape, as the node knows it; 4: how far the
--       window reaches back, in milliseconds; 5: how many events; then their digests (16 bytes each); then 'e' and an
--       event in turn, as the entry holds them.
-- Answers 0 if the queue has another shape, -1 if it takes publish.lua, else 1: they are the latest of the log.
if part.partitions and part.partitions ~= args[3] then return 0 end

opens(args[1], args[2], args[4], false)
local count = tonumber(args[5])
local at = 6 + count
local asked = { unpack(args, 6, at - 1) }
local function has_any(hash)
    for _, found in ipairs(redis.call('HMGET', hash, unpack(asked))) do
        if found then return true end
    end
end
if log.reach > 0 and has_any(DEDUPE) or part.waiting > 0 and has_any(EVENTS) then return -1 end

part.seq = part.seq + count
for event = at + 1, #args, 2 do part.pending = part.pending + #args[event] end
write({ 'partitions', args[3] }, asked, args, at)
return 1
