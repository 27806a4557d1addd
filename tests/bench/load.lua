--  What wrk sends (from the environment, so that no token stands in an argv) and one line of JSON
--  about what came back. The request never changes, so wrk formats it once.

wrk.method = os.getenv ("BENCH_METHOD")
wrk.headers ["Authorization"] = "Bearer " .. os.getenv ("BENCH_TOKEN")
local body = os.getenv ("BENCH_BODY")
if body ~= "" then
    wrk.body = body
    wrk.headers ["Content-Type"] = "application/json"
end

done = function (summary, latency)
    local errors = summary.errors
    io.write (string.format (
        '{"requests":%d,"seconds":%.6f,"p50":%.3f,"p99":%.3f,"failed":%d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile (50) / 1e3,
        latency:percentile (99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
