# Sourced by api.sh: the peers of Debian 12, and nginx on a port of its own.

install_peers() {
  local packages=()
  command -v nginx >/dev/null || packages+=(nginx-light)
  command -v wrk >/dev/null || packages+=(wrk)
  [ ${#packages[@]} -gt 0 ] || return 0
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}" >&2
  # Its package may have started it, for port 80.
  [ ! -s /run/nginx.pid ] || nginx -s stop
}

# start_nginx WORKERS FOLDER: sets nginx_url. Debian's own configuration (sendfile, tcp_nopush, an
# access log without a buffer), but for its port, its paths and gzip, which is off.
start_nginx() {
  local port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  cat >"$work/nginx.site" <<END
server { listen 127.0.0.1:$port; root $2; }
END
  sed -e "s|^worker_processes .*|worker_processes $1;|" -e "s|^pid .*|pid $work/nginx.pid;|" \
    -e "s|/var/log/nginx|$work|" -e 's|gzip on;|gzip off;|' -e '/modules-enabled/d' \
    -e '/conf\.d/d' -e "s|include /etc/nginx/sites-enabled/.*|include $work/nginx.site;|" \
    /etc/nginx/nginx.conf >"$work/nginx.conf"
  nginx -c "$work/nginx.conf" # it listens when this returns
  nginx_url=http://127.0.0.1:$port
}

stop_nginx() {
  local pid
  pid=$(cat "$work/nginx.pid")
  kill "$pid"
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.05
  done
  echo "nginx did not end" >&2
  return 1
}
