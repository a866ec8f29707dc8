package peer

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"

	"usher/bench/load"
	"usher/bench/machine"
)

// Nginx is Debian's, with its stream module.
func Nginx() *Proxy {
	return &Proxy{Name: "nginx", Package: "nginx", Path: Find("nginx"), start: startNginx, stop: syscall.SIGTERM, version: []string{"-v"}}
}

var modulesPath = regexp.MustCompile(`--modules-path=(\S+)`)

// NginxStream is the path of the stream module, as nginx was built to find it.
func NginxStream(nginx string) string {
	out, _ := exec.Command(nginx, "-V").CombinedOutput()
	if m := modulesPath.FindSubmatch(out); m != nil {
		return filepath.Join(string(m[1]), "ngx_stream_module.so")
	}
	return "/usr/lib/nginx/modules/ngx_stream_module.so"
}

// startNginx: one worker for one core, connections to the backend kept, no
// limit on requests for a kept connection, nothing buffered on disk, sessions
// cached. The buffers are far above their defaults (8 KB and 16 KB): the manual
// is silent on what is best, but with them nginx spends half as much on bulk.
func startNginx(p *Proxy, t *Task) (machine.Command, error) {
	user := ""
	if t.Root {
		user = "user root;"
	}
	format, log := "", "access_log off;"
	if t.Log != "" {
		format = `log_format json escape=json '{"time":"$time_iso8601","client":"$remote_addr","host":"$host","method":"$request_method","path":"$uri","proto":"$server_protocol","status":$status,"bytes":$body_bytes_sent,"duration":$request_time,"upstream":"$upstream_addr","user_agent":"$http_user_agent"}';`
		log = fmt.Sprintf("access_log %s json buffer=64k flush=1s;", t.Log)
	}
	file, err := t.write("nginx.conf", fmt.Sprintf(`load_module %[1]s;
daemon off; %[2]s
worker_processes 1;
worker_rlimit_nofile 20000;
pid %[3]s/nginx.pid;
error_log stderr error;
events { worker_connections 19000; multi_accept on; }
http {
	%[4]s
	%[5]s
	client_body_temp_path %[3]s/body; proxy_temp_path %[3]s/proxy; fastcgi_temp_path %[3]s/f; uwsgi_temp_path %[3]s/u; scgi_temp_path %[3]s/s;
	server_tokens off;
	sendfile on; tcp_nopush on; tcp_nodelay on;
	keepalive_timeout 75s; keepalive_requests 1000000000;
	client_max_body_size 0; client_body_buffer_size 256k;
	upstream backend { server %[6]s; keepalive 256; keepalive_requests 1000000000; }
	ssl_certificate %[7]s; ssl_certificate_key %[8]s;
	ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:SSL:10m; ssl_session_timeout 1h;
	server {
		listen %[9]s backlog=4096;
		listen %[10]s ssl http2 backlog=4096;
		server_name %[11]s;
		location / {
			proxy_pass http://backend;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_request_buffering off;
			proxy_buffer_size 128k; proxy_buffers 8 128k; proxy_busy_buffers_size 256k;
			proxy_max_temp_file_size 0;
		}
	}
}
stream {
	map $ssl_preread_server_name $to { %[12]s once; %[13]s ask; }
	upstream once { server %[14]s; }
	upstream ask { server %[15]s; }
	server {
		listen %[16]s backlog=4096;
		ssl_preread on;
		proxy_pass $to;
		proxy_buffer_size 256k;
	}
}
`, NginxStream(p.Path), user, t.Dir, format, log, t.Backend.HTTP, t.Cert, t.Key, t.Plain, t.TLS, load.Name,
		load.OnceName, load.AskName, t.Backend.Once, t.Backend.Ask, t.Pass))
	return machine.Command{Args: []string{p.Path, "-p", t.Dir, "-e", "stderr", "-c", file}}, err
}
