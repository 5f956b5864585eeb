-- Records the events of several publishes as one entry of the stream, each publish whole or not at all, in their order.
-- args: 1: the queue; 2: the most events of the dedupe window; 3: how many partitions the node thinks there are;
--       4: how many publishes; 5: what the partition may hold (floor.lua); then of each: the expected lineage, the outbox, its first number ('' each where there is
--       none), how many events, and of each event its digest (16 bytes) and itself.
-- Answers how many partitions there are, if it is another number; else of each publish
--   {0}: the lineage isn't the expected one; {1, n}: number n is next;
--   {3}: the partition is full; {2, p, ...}: where each event is recorded; -p: was recorded before, 0: before, nobody knows where.
local WINDOW = 2 * 3600000
local RUNS = 16

if part.partitions and part.partitions ~= args[3] then return tonumber(part.partitions) end

local limit = limits(args[5])
local publishes, asked = {}, {}
local at = 6
for i = 1, tonumber(args[4]) do
    local publish = { expected = args[at], outbox = args[at + 1], at = at + 4 }
    publish.no, publish.count = tonumber(args[at + 2]), tonumber(args[at + 3])
    at = publish.at + 2 * publish.count
    if publish.outbox == '' then
        for event = publish.at, at - 1, 2 do asked[#asked + 1] = args[event] end
    end
    publishes[i] = publish
end

-- The window: where an event was recorded in the last two hours.
local window = {}
if #asked > 0 then
    for i, found in ipairs(redis.call('HMGET', DEDUPE, unpack(asked))) do
        if found then
            local position, recorded = found:match('(%d+):(%d+)')
            if tonumber(recorded) > part.now - WINDOW then window[asked[i]] = tonumber(position) end
        end
    end
end

local entry, digests = { 'l', part.lineage, 'b', int(part.bytes) }, {}
local first = part.seq + 1
local function record(digest, event)
    part.seq = part.seq + 1
    window[digest] = part.seq
    digests[#digests + 1] = digest
    part.pending = part.pending + #event
    entry[#entry + 1] = 'e'
    entry[#entry + 1] = event
    return part.seq
end

-- An outbox: its last number, and the latest runs of numbers at consecutive positions.
local outboxes = {}
local function outbox(name)
    if not outboxes[name] then
        local found = { runs = {} }
        local stored = redis.call('HGET', META, 'p:' .. name)
        if stored then
            local last, runs = stored:match('^(%d+)|(.*)$')
            found.last = tonumber(last)
            for no, position, count in runs:gmatch('(%d+):(%d+):(%d+)') do
                found.runs[#found.runs + 1] = { tonumber(no), tonumber(position), tonumber(count) }
            end
        end
        outboxes[name] = found
    end
    return outboxes[name]
end

local function numbered(from, no, position)
    from.last, from.changed = no, true
    local run = from.runs[#from.runs]
    if run and run[1] + run[3] == no and run[2] + run[3] == position then
        run[3] = run[3] + 1
    else
        from.runs[#from.runs + 1] = { no, position, 1 }
        if #from.runs > RUNS then table.remove(from.runs, 1) end
    end
end

local function position_of(from, no)
    for i = #from.runs, 1, -1 do
        local run = from.runs[i]
        if no >= run[1] and no < run[1] + run[3] then return run[2] + no - run[1] end
    end
    return 0
end

-- Where an event was recorded before, if it was.
local function known(from, no, event)
    if not from then return window[args[event]] end
    if from.last and no <= from.last then return position_of(from, no) end
end

-- Whether there is room for what is new of a publish.
local function fits_in(publish, from)
    if not limit then return true end
    local count, bytes, no = 0, 0, publish.no
    for event = publish.at, publish.at + 2 * publish.count - 1, 2 do
        if not known(from, no, event) then count, bytes = count + 1, bytes + #args[event + 1] end
        if from then no = no + 1 end
    end
    return count == 0 or room(limit, first, count, bytes)
end

local answers = {}
for i, publish in ipairs(publishes) do
    local from, no = publish.outbox ~= '' and outbox(publish.outbox), publish.no
    if publish.expected ~= '' and publish.expected ~= part.lineage then
        answers[i] = { 0 }
    elseif from and from.last and no > from.last + 1 then
        answers[i] = { 1, from.last + 1 }
    elseif not fits_in(publish, from) then
        answers[i] = { 3 }
        tell_rarely('QUEUE_FULL')
    else
        local answer = { 2 }
        for event = publish.at, publish.at + 2 * publish.count - 1, 2 do
            local before = known(from, no, event)
            if before then
                answer[#answer + 1] = -before
            else
                local position = record(args[event], args[event + 1])
                answer[#answer + 1] = position
                if from then numbered(from, no, position) end
            end
            if from then no = no + 1 end
        end
        answers[i] = answer
    end
end

if #digests > 0 then
    redis.call('XADD', STREAM, int(first) .. '-' .. int(part.now), unpack(entry))

    -- What is recorded never lies in the future of the next time.
    part.bytes = part.bytes + part.pending
    local changed = { 'seq', int(part.seq), 'partitions', args[3], 'now', int(part.now), 'offset', int(part.offset),
        'bytes', int(part.bytes) }
    part.told, part.remember = part.now, false
    for name, from in pairs(outboxes) do
        if from.changed then
            local runs = {}
            for i, run in ipairs(from.runs) do runs[i] = int(run[1]) .. ':' .. int(run[2]) .. ':' .. int(run[3]) end
            changed[#changed + 1] = 'p:' .. name
            changed[#changed + 1] = int(from.last) .. '|' .. table.concat(runs, ',')
        end
    end

    -- The window: what is recorded now goes in, and as much as that, and more, of what is too old or too much goes out.
    local remembered, recorded = {}, ':' .. int(part.now)
    for i, digest in ipairs(digests) do
        remembered[2 * i - 1] = digest
        remembered[2 * i] = int(first + i - 1) .. recorded
    end
    local size = redis.call('HLEN', DEDUPE) + #digests
    local batches = redis.call('RPUSH', ORDER, int(part.now) .. ':' .. int(first) .. ':' .. table.concat(digests))
    if batches == 1 and size > #digests then
        -- Without its order, which somebody deleted, nothing of it would ever go out.
        redis.call('UNLINK', DEDUPE)
        size = #digests
    end
    if size == #digests then redis.call('HDEL', META, 'cut_short') end
    redis.call('HSET', DEDUPE, unpack(remembered))
    for _ = 1, 8 do
        local oldest = redis.call('LINDEX', ORDER, 0)
        if not oldest then break end
        local time, position, rest = oldest:match('^(%d+):(%d+):()')
        local over = tonumber(time) <= part.now - WINDOW
        if not over and size <= tonumber(args[2]) then break end
        for i = rest, #oldest, 16 do
            -- Not what a relay had recorded again since.
            local digest = oldest:sub(i, i + 15)
            local value = int(position + (i - rest) / 16) .. ':' .. time
            if redis.call('HGET', DEDUPE, digest) == value then redis.call('HDEL', DEDUPE, digest) end
        end
        redis.call('LPOP', ORDER)
        size = redis.call('HLEN', DEDUPE)
        if over then
            redis.call('HDEL', META, 'cut_short')
        else
            changed[#changed + 1] = 'cut_short'
            changed[#changed + 1] = '1'
            tell_rarely('DEDUPE_CUT_SHORT')
        end
    end
    redis.call('PEXPIRE', DEDUPE, WINDOW + 60000)
    redis.call('PEXPIRE', ORDER, WINDOW + 60000)

    redis.call('HSET', META, unpack(changed))
    announce(first, entry)
end
return answers
