-- What waits for its time in a partition: WAITING, a sorted set of `<arrival, 16 digits><digest>` by when it is due, so that
-- what is due at once has the order of its arrival; EVENTS, a hash, a digest to `<due>:<arrival>:<its key's digest><event>`.
-- The meta knows how many there are (`waiting`): where there are none, nobody asks for them; where fewer are there, they are
-- lost.
local known_due = {}
local before = part.waiting

local function turn(arrival, digest) return string.format('%016.0f', arrival) .. digest end
local function is_its_turn(stored, found) return tonumber(stored:match('^%d+:(%d+):')) == tonumber(found:sub(1, 16)) end

-- When the event with a digest is due, if it waits.
local function due_of(digest)
    if part.waiting == 0 then return nil end
    if known_due[digest] == nil then
        local found = redis.call('HGET', EVENTS, digest)
        known_due[digest] = found and tonumber(found:match('^(%d+):')) or false
    end
    return known_due[digest] or nil
end

local function schedule(digest, key, due, event)
    local arrival = redis.call('HINCRBY', META, 'arrival', 1)
    redis.call('ZADD', WAITING, int(due), turn(arrival, digest))
    redis.call('HSET', EVENTS, digest, int(due) .. ':' .. int(arrival) .. ':' .. key .. event)
    known_due[digest] = due
    part.waiting = part.waiting + 1
    part.scheduled = math.min(part.scheduled or due, due)
end

-- Writes down how many wait; and tells every node, where one of those that came is the next one.
local function scheduled()
    if part.waiting ~= before then redis.call('HSET', META, 'waiting', int(part.waiting)) end
    if part.scheduled then
        local next_one = redis.call('ZRANGE', WAITING, 0, 0, 'WITHSCORES')
        if tonumber(next_one[2]) == part.scheduled then hint('w:' .. log.queue) end
    end
end
