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

# Waits until a process does what a letter says: T stands still, Z has ended; or until it is no more.
wait_for_state() {
    while :; do
        words=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
        words=${words##*) }
        case ${words%% *} in "$2" | Z) return 0 ;; esac
        sleep 0.01
    done
}

# The server and its children at once, as when the machine loses power; but what it wrote stays. It stands
# still meanwhile, so that it has no other children afterwards than those that are found.
crash() {
    [ -n "$pid" ] || return 0
    if [ -d "/proc/$pid" ]; then
        kill -s STOP "$pid"
        wait_for_state "$pid" T
        for child in $(cat "/proc/$pid/task/$pid/children" 2>/dev/null); do
            kill -s KILL "$child"
            wait_for_state "$child" Z
        done
    fi
    kill -s KILL "$pid"
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
