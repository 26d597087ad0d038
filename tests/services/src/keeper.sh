# Owns one server: starts, stops and crashes it as it reads, and answers each line with one. At the end of
# its input, which comes however its parent ends, it stops the server and removes the folder.
#
# Arguments: the folder, the signal that the server takes for a request to end, what to do after the
# server has ended for good, and the server's command.
folder=$1 ask=$2 after=$3
shift 3
pid=

start() {
    "$@" </dev/null >>"$folder/log" 2>&1 &
    pid=$!
}

# Asks it to end; after ten seconds it is no longer asked.
stop() {
    [ -n "$pid" ] || return 0
    kill -s "$ask" "$pid" 2>/dev/null
    (
        sleep 10 &
        sleeps=$!
        trap 'kill "$sleeps"' TERM
        wait "$sleeps" && kill -s KILL "$pid"
    ) </dev/null >/dev/null 2>&1 &
    late=$!
    wait "$pid"
    kill "$late" 2>/dev/null
    pid=
}

# The server and its children at once, as when the machine loses power; but what it wrote stays.
crash() {
    [ -n "$pid" ] || return 0
    kill -s STOP "$pid"
    # shellcheck disable=SC2046
    kill -s KILL $(cat "/proc/$pid/task/$pid/children" 2>/dev/null) "$pid"
    wait "$pid"
    pid=
}

end() {
    stop
    eval "$after"
    rm -rf "$folder"
}

trap 'exit 0' HUP INT TERM
trap end EXIT
while read -r verb; do
    case $verb in
    start) start "$@" ;;
    stop) stop ;;
    crash) crash ;;
    esac
    echo "${pid:-0}"
done 2>/dev/null
