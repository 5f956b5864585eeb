-- Records the events of several publishes as one entry of the stream, each publish whole or not at all, in their order.
-- args: 1: the queue; 2: the most events of the dedupe window; 3: how many partitions the node thinks there are;
--       4: how many publishes; then of each: the expected lineage, the outbox, its first number ('' each where there is
--       none), how many events, and of each event its digest (16 bytes) and itself.
-- Answers how many partitions there are, if it is another number; else of each publish
--   {0}: the lineage isn't the expected one; {1, n}: number n is next;
--   {2, p, ...}: where each event is recorded; -p: was recorded before, 0: before, nobody knows where.
local WINDOW = 2 * 3600000
local RUNS = 16

local told = redis.call('HGET', META, 'partitions')
if told and told ~= args[3] then return tonumber(told) end

local at = 4
local function take()
    at = at + 1
    return args[at]
end

-- What the window knows of an event: its position, 0 where it knows nothing.
local here = {}
local function known(digest)
    if here[digest] then return here[digest] end
    local found = redis.call('HGET', DEDUPE, digest)
    if found then
        local position, recorded = found:match('(%d+):(%d+)')
        if tonumber(recorded) > part.now - WINDOW then return tonumber(position) end
    end
    return 0
end

local entry, digests = { 'l', part.lineage }, {}
local first = part.seq + 1
local function record(digest, event)
    part.seq = part.seq + 1
    here[digest] = part.seq
    digests[#digests + 1] = digest
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

local answers = {}
for i = 1, tonumber(args[4]) do
    local expected, name, no, count = take(), take(), tonumber(take()), tonumber(take())
    local from = name ~= '' and outbox(name)
    local answer = { 2 }
    if expected ~= '' and expected ~= part.lineage then
        answer = { 0 }
    elseif from and from.last and no > from.last + 1 then
        answer = { 1, from.last + 1 }
    end
    for j = 1, count do
        local digest, event = take(), take()
        if answer[1] == 2 then
            local before = 0
            if not from then
                before = known(digest)
            elseif from.last and no <= from.last then
                before = position_of(from, no)
                if before == 0 then before = -0.5 end
            end
            if before > 0 then
                answer[j + 1] = -before
            elseif before < 0 then
                answer[j + 1] = 0
            else
                answer[j + 1] = record(digest, event)
                if from then numbered(from, no, answer[j + 1]) end
            end
        end
        if from then no = no + 1 end
    end
    answers[i] = answer
end

if #digests > 0 then
    redis.call('XADD', STREAM, int(first) .. '-' .. int(part.now), unpack(entry))

    local changed = { 'seq', int(part.seq), 'partitions', args[3] }
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
    if redis.call('HLEN', DEDUPE) == 0 then redis.call('HDEL', META, 'cut_short') end
    redis.call('HSET', DEDUPE, unpack(remembered))
    redis.call('RPUSH', ORDER, int(part.now) .. ':' .. int(first) .. ':' .. table.concat(digests))
    for _ = 1, 8 do
        local oldest = redis.call('LINDEX', ORDER, 0)
        if not oldest then break end
        local time, position, rest = oldest:match('^(%d+):(%d+):()')
        local over = tonumber(time) <= part.now - WINDOW
        if not over and redis.call('HLEN', DEDUPE) <= tonumber(args[2]) then break end
        for i = rest, #oldest, 16 do
            -- Not what a relay had recorded again since.
            local digest = oldest:sub(i, i + 15)
            local value = int(position + (i - rest) / 16) .. ':' .. time
            if redis.call('HGET', DEDUPE, digest) == value then redis.call('HDEL', DEDUPE, digest) end
        end
        redis.call('LPOP', ORDER)
        if over then
            redis.call('HDEL', META, 'cut_short')
        else
            changed[#changed + 1] = 'cut_short'
            changed[#changed + 1] = '1'
        end
    end
    redis.call('PEXPIRE', DEDUPE, WINDOW + 60000)
    redis.call('PEXPIRE', ORDER, WINDOW + 60000)

    redis.call('HSET', META, unpack(changed))
    -- What is recorded never lies in the future of the next time.
    part.remember = true
    hint('q:' .. args[1])
end
return answers
