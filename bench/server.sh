# Sourced by the scripts of this folder: starts the built server on free ports of 127.0.0.1.
# start_server [FLAGS] sets server (pid), admin, and to: the flags that lead rollcall-bench to it.
# listener=ws or mqtt leads it to that listener instead of the native one.
# check_server ends it by SIGTERM and fails if it exits other than 0 or has logged an error.
start_server() {
  work=$(mktemp -d)
  bin/rollcall serve --dev --data-dir "$work/data" --durability "${DURABILITY:-memory}" --listen-native 127.0.0.1:0 --listen-ws 127.0.0.1:0 --listen-mqtt 127.0.0.1:0 --listen-api 127.0.0.1:0 --listen-admin 127.0.0.1:0 "$@" \
    >"$work/out" 2>"$work/log" &
  server=$!
  trap 'kill "$server" 2>/dev/null && wait "$server" || true; rm -rf "$work"' EXIT
  local line=
  for _ in $(seq 100); do
    line=$(grep -m1 '^listening ' "$work/out" || true)
    [ -n "$line" ] && break
    kill -0 "$server" 2>/dev/null || { cat "$work/log"; exit 1; }
    sleep 0.1
  done
  [ -n "$line" ] || { echo "the server did not start:"; cat "$work/log"; exit 1; }
  addr() { sed -n "s/.* $1=\([^ ]*\).*/\1/p" <<<"$line"; }
  admin=http://$(addr admin)
  to=(--target "$(addr "${listener:-native}")" --api "http://$(addr api)" --admin-url "$admin" --server-pid "$server")
}

check_server() {
  kill -TERM "$server"
  if wait "$server"; then echo "server drained and exited 0"; else echo "server exited $? on SIGTERM"; tail -20 "$work/log"; exit 1; fi
  if grep -E 'panic|level":"ERROR' "$work/log"; then echo "the server logged errors"; exit 1; fi
}
