-- Moves the floor, and deletes the entries that lie wholly below it; but nothing that a group has not settled.
-- args: 1: the first position to keep; 2: the most positions to move by; 3: what a group's key begins with;
--       4: the lineage in which that position was found: another log's old events may be new ones here
-- Answers by how many positions the floor moved.
if part.lineage ~= args[4] then return 0 end
local stop = math.min(tonumber(args[1]), part.floor + tonumber(args[2]), part.seq + 1)
for _, group in ipairs(redis.call('SMEMBERS', GROUPS)) do
    local low = redis.call('HGET', args[3] .. group, 'low')
    if low then stop = math.min(stop, tonumber(low)) end
end
if stop <= part.floor then return 0 end

local keep = stop
local entry = redis.call('XREVRANGE', STREAM, int(stop), '-', 'COUNT', 1)[1]
if entry then
    -- A lineage, then the events, a name and a value each.
    local first, events = tonumber(entry[1]:match('^%d+')), #entry[2] / 2 - 1
    if first + events > stop then keep = first end
end
redis.call('XTRIM', STREAM, 'MINID', int(keep))
local moved = stop - part.floor
part.floor = stop
redis.call('HSET', META, 'floor', int(stop))
return moved
