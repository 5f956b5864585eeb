-- Moving a partition's floor, for the scripts that do. An entry of the stream holds its lineage (`l`), the bytes of all
-- events recorded before it (`b`; not where an older version wrote it), and then its events (`e`): so it can be told what
-- is freed without reading what is deleted.
-- A script that records sets `part.pending`: the bytes of what it has not added to the stream yet.
part.pending = 0
local AWAY = 600000
local STEPS = 64
local TURNS = 16

-- How many events an entry holds, and the bytes before it.
local function measure(fields)
    local before
    for i = 1, #fields, 2 do
        if fields[i] == 'e' then return (#fields - i + 1) / 2, before end
        if fields[i] == 'b' then before = tonumber(fields[i + 1]) end
    end
    return 0, before
end

-- What a partition may hold: `length:bytes:drop:age:groups`; '' where nothing limits it. age: how long a group may be
-- away that keeps its hold, groups: what a group's key begins with.
local function limits(text)
    local length, bytes, drop, age, groups = text:match('^(%d*):(%d*):(%d):(%d+):(.*)$')
    if not length then return nil end
    return { length = tonumber(length), bytes = tonumber(bytes), drop = drop == '1', age = tonumber(age), groups = groups }
end

-- The first position with which, and with what follows, no more than so many bytes are kept; it walks some steps at most.
local function fits(bytes)
    local target = part.bytes - bytes
    if target <= part.freed then return part.floor end
    local from = '-'
    local last = part.floor
    for _ = 1, STEPS do
        local entry = redis.call('XRANGE', STREAM, from, '+', 'COUNT', 1)[1]
        if not entry then return part.seq + 1 end
        local _, before = measure(entry[2])
        last = tonumber(entry[1]:match('^%d+'))
        if before and before >= target then return last end
        from = '(' .. entry[1]
    end
    return last
end

-- How far the floor may move towards a position without passing what a group has not settled; and the groups that were
-- away for so long that they hold nothing any more. Time in which nobody kept the bus in order counts for none.
local function held(stop, limit)
    local away = {}
    local kept = redis.call('HMGET', META, 'kept', 'awake')
    local awake = kept[1] and part.now - tonumber(kept[1]) <= AWAY and tonumber(kept[2])
    for _, group in ipairs(redis.call('SMEMBERS', GROUPS)) do
        local state = limit.groups .. group
        local had = redis.call('HMGET', state, 'low', 'claimed', 'abandoned', 'v')
        local low, claimed = tonumber(had[1]), tonumber(had[2])
        if low and low < stop then
            if awake and claimed and part.now - math.max(claimed, awake) > limit.age then
                away[#away + 1] =
                    { name = group, state = state, low = low, claimed = claimed, told = had[3], version = had[4] }
            else
                -- What lies below the floor is lost already.
                stop = math.max(low, part.floor)
            end
        end
    end
    return stop, away
end

-- Moves the floor up to a position, and deletes the entries that lie wholly below it.
local function raise(stop, away)
    if stop <= part.floor then return end
    local keep, freed = stop, part.bytes
    local entry = redis.call('XREVRANGE', STREAM, int(stop), '-', 'COUNT', 1)[1]
    local first = entry and tonumber(entry[1]:match('^%d+'))
    if not entry or first + measure(entry[2]) <= stop then
        entry = redis.call('XRANGE', STREAM, int(stop), '+', 'COUNT', 1)[1]
    else
        keep = first
    end
    if entry then
        local _, before = measure(entry[2])
        freed = before or part.freed
    end
    redis.call('XTRIM', STREAM, 'MINID', int(keep))
    if part.partitions and part.partitions:find(',', 1, true) then
        -- What is trimmed is its key's last event no more.
        redis.call('ZREMRANGEBYSCORE', VIEW, '-inf', '(' .. int(stop))
    end
    for _, group in ipairs(away) do
        if group.low < stop and (group.told or '') == '' then
            -- Another version: a node that knows the state must hear of it.
            redis.call('HSET', group.state, 'abandoned', int(part.now), 'v', int(tonumber(group.version or 0) + 1))
            local from = math.max(group.low, part.floor)
            tell('GROUP_ABANDONED', { group = group.name, from = from, to = stop, claimed = group.claimed })
        end
    end
    part.floor, part.freed = stop, freed
    redis.call('HSET', META, 'floor', int(stop), 'freed', int(freed))
end

-- Makes room for so many more events and bytes; whether there is. `first`: the first position that this script records:
-- what it records itself is trimmed by a later one, so that a batch may be larger than what is kept.
local function room(limit, first, count, bytes)
    local function is_full()
        local kept = part.bytes + part.pending - part.freed
        return limit.length and part.seq + 1 - part.floor + count > limit.length
            or limit.bytes and kept + bytes > limit.bytes
    end
    if not is_full() then return true end
    if part.floor < first and redis.call('EXISTS', STREAM) == 0 then forget_log(first) end
    for _ = 1, TURNS do
        if not is_full() then return true end
        local want = part.floor
        if limit.length then want = math.max(want, part.seq + 1 + count - limit.length) end
        if limit.bytes then want = math.max(want, fits(limit.bytes - part.pending - bytes)) end
        local stop, away = want, {}
        if not limit.drop then stop, away = held(want, limit) end
        raise(math.min(stop, first), away)
        if stop < want then return false end
        if want >= first then return true end
    end
    return limit.drop
end
