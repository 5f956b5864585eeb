-- Runs before every script on a partition: finds the partition's lineage, begins a new one where the server is another
-- one or has forgotten, and tells the time. A script's own text is the body of `main`; it uses
--   keys, args        what its caller gave it
--   part              lineage (text), seq, floor, now (milliseconds that never go back), partitions (text; false: not
--                     told yet how many the queue has), bytes (of all events ever recorded), freed (of those whose
--                     entries are gone), waiting (how many wait for their time); it may change seq, floor, bytes,
--                     freed and waiting
--   META, STREAM, DEDUPE, ORDER, GROUPS, EFFECTS, VIEW, WAITING, EVENTS    the partition's keys
--   int(n)            a number as text, all digits
--   hint(text)        tells every node that something changed
--   announce(first, entry, at)    tells what was recorded
--   forget_log(first)   when somebody deleted the stream
--   tell(event, data), tell_rarely(event)
--                     leaves an event for the queue SYS, which is in another slot: a node carries it there
local META, STREAM, DEDUPE, ORDER, GROUPS, EFFECTS, VIEW, WAITING, EVENTS = unpack(KEYS, 1, 9)
local keys, args = {}, {}
for i = 10, #KEYS do keys[i - 9] = KEYS[i] end
-- 1: the id of a lineage that begins; 2: the time, where a test tells it; 3: the lineage the node knows; 4: the channel
for i = 5, #ARGV do args[i - 4] = ARGV[i] end

local function int(n) return string.format('%d', n) end
local function hint(text) redis.call('PUBLISH', ARGV[4], text) end

local part = {}
do
    local info = redis.call('INFO', 'server', 'replication')
    local function forty(name)
        local _, last = info:find(name, 1, true)
        return info:sub(last + 1, last + 40)
    end
    local server = forty('run_id:') .. ':' .. forty('master_replid:')
    local meta = redis.call('HMGET', META, 'server', 'lineage', 'seq', 'floor', 'now', 'offset', 'partitions', 'bytes',
        'freed', 'waiting')
    part.lineage = meta[2] or nil
    part.seq, part.floor = tonumber(meta[3] or 0), tonumber(meta[4] or 1)
    part.told, part.offset = tonumber(meta[5] or 0), tonumber(meta[6] or 0)
    part.partitions = meta[7]
    part.bytes, part.freed = tonumber(meta[8] or 0), tonumber(meta[9] or 0)
    part.waiting = tonumber(meta[10] or 0)

    local raw = tonumber(ARGV[2])
    if not raw then
        local time = redis.call('TIME')
        raw = time[1] * 1000 + math.floor(time[2] / 1000)
    end
    part.now = raw + part.offset
    if part.now < part.told then
        part.offset = part.offset + part.told - part.now
        part.now = part.told
        part.remember = true
    end

    if not part.lineage then
        -- New, or flushed. What may be left of it without its meta means nothing any more.
        redis.call('UNLINK', STREAM, DEDUPE, ORDER, VIEW, WAITING, EVENTS)
    end
    if meta[1] ~= server then
        local first = part.seq + 1
        local history = {}
        for each in (redis.call('HGET', META, 'lineages') or ''):gmatch('[^,]+') do history[#history + 1] = each end
        if #history >= 256 then
            -- Those under which nothing was recorded are forgotten first: nobody sends anything again because of them.
            local forget = 1
            for i = 1, #history do
                local after = history[i + 1] and history[i + 1]:match(':(%d+):') or int(first)
                if history[i]:match(':(%d+):') == after then
                    forget = i
                    break
                end
            end
            table.remove(history, forget)
        end
        history[#history + 1] = ARGV[1] .. ':' .. int(first) .. ':' .. (part.lineage or '')
        part.lineage = ARGV[1]
        redis.call('HSET', META, 'server', server, 'lineage', part.lineage, 'lineages', table.concat(history, ','),
            'seq', int(part.seq), 'floor', int(part.floor))
        part.remember = true
    end
end

-- Takes in that somebody deleted the log: what lies before `first` isn't kept, and whoever has it may send it again.
local function forget_log(first)
    part.floor, part.freed = first, part.bytes
    redis.call('HSET', META, 'floor', int(first), 'freed', int(part.freed))
    redis.call('UNLINK', DEDUPE, ORDER)
end

local function tell(event, data)
    local told = { n = redis.call('HINCRBY', META, 'effects', 1), lineage = part.lineage, at = part.now, event = event }
    told.data = data
    redis.call('RPUSH', EFFECTS, cjson.encode(told))
    -- More than that nobody has carried away for long.
    redis.call('LTRIM', EFFECTS, -256, -1)
end

-- At most once in ten minutes.
local function tell_rarely(event)
    local field = 'told:' .. event
    if part.now - tonumber(redis.call('HGET', META, field) or 0) < 600000 then return end
    redis.call('HSET', META, field, int(part.now))
    tell(event, {})
end

-- Tells every node that an entry was recorded; with its events, if they are small: whoever follows needn't ask for them.
-- They stand in `entry` from `at` on, each after an 'e'.
local function announce(first, entry, at)
    local tag = STREAM:match('{(.-)}')
    if part.pending > 4096 then return hint('q:' .. tag:match('^[^:]+')) end
    local lengths, events = {}, {}
    for i = at + 1, #entry, 2 do
        events[#events + 1] = entry[i]
        lengths[#lengths + 1] = #entry[i]
    end
    hint('e:' .. tag .. ':' .. part.lineage .. ':' .. int(first) .. ':' .. int(part.now) .. ':'
        .. table.concat(lengths, ',') .. '\n' .. table.concat(events))
end

local function finish(result)
    if type(result) == 'table' and result.err then return result end
    -- A clock that steps back between two scripts is noticed to ten seconds.
    if part.remember or part.now - part.told > 10000 then
        redis.call('HSET', META, 'now', int(part.now), 'offset', int(part.offset))
    end
    local lineages = part.lineage ~= ARGV[3] and redis.call('HGET', META, 'lineages')
    if result == nil then result = false end
    -- When the next of those that wait is due.
    local due = part.waiting > 0 and tonumber(redis.call('ZRANGE', WAITING, 0, 0, 'WITHSCORES')[2]) or false
    return { part.lineage, part.seq + 1, part.floor, part.now, lineages, result, due }
end
