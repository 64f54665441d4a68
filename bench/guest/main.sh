# Runs in the guest, by busybox sh: server and load client, both ends of every link in one machine. bench/million puts its
# settings in front of this text. The JSON result is printed between two marks.
server_flags="--dev --data-dir /data --durability memory --max-links $MAX_LINKS --login-timeout $ANSWER --listen-native 127.0.0.1:7700 --listen-ws off --listen-mqtt off --listen-api 127.0.0.1:7780 --listen-admin 127.0.0.1:7781"
if [ -n "${GOGC:-}" ]; then export GOGC; fi # else the server's own
rollcall serve $server_flags >/tmp/out 2>/tmp/log &
server=$!
i=0
until grep -q '^listening ' /tmp/out; do
  i=$((i + 1))
  if [ $i -gt 300 ] || ! kill -0 $server 2>/dev/null; then echo "the server did not start:"; cat /tmp/out /tmp/log; exit 1; fi
  sleep 1
done
rollcall-bench million --server-pid $server --conns "$LINKS" --per-source 10000 --window "$WINDOW" --hold "$HOLD" --beat "$BEAT" --silence "$SILENCE" \
  --answer-timeout "$ANSWER" --settle-timeout "$SETTLE" --progress 30s --json /tmp/result.json
status=$?
kill -TERM $server
wait $server || { echo "server exited $? on SIGTERM"; tail -20 /tmp/log; status=1; }
if grep -E 'panic|level":"ERROR' /tmp/log; then echo "the server logged errors"; status=1; fi
if [ -f /tmp/result.json ]; then echo "== result.json"; cat /tmp/result.json; echo "== end"; fi
exit $status
