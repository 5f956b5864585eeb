-- Trims what is too old or too much; but nothing that a group has not settled, unless the queue drops its oldest.
-- args: 1: the first position that isn't too old; 2: the most positions to move by; 3: the lineage in which that position
--       was found: another log's old events may be new ones here; 4: what the partition may hold (floor.lua)
-- Answers by how many positions the floor moved.
local kept = redis.call('HMGET', META, 'kept', 'awake')
local awake = kept[1] and part.now - tonumber(kept[1]) <= AWAY and kept[2] or int(part.now)
redis.call('HSET', META, 'kept', int(part.now), 'awake', awake)
if part.lineage ~= args[3] then return 0 end

local limit = limits(args[4])
local too_much = part.floor
if limit.length then too_much = math.max(too_much, part.seq + 1 - limit.length) end
if limit.bytes then too_much = math.max(too_much, fits(limit.bytes)) end
local most = math.min(part.floor + tonumber(args[2]), part.seq + 1)
local stop, away = held(math.min(math.max(tonumber(args[1]), too_much), most), limit)
if limit.drop then stop = math.max(stop, math.min(too_much, most)) end
local before = part.floor
raise(stop, away)
return part.floor - before
