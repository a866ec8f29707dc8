package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"usher/config"
	"usher/proxy"
	"usher/proxy/h3"
	"usher/proxy/socket"
	"usher/proxy/tunnel"
	"usher/proxy/upstream"
	"usher/proxy/upstream/health"
	"usher/proxy/upstream/names"
	"usher/server/systemd"
	"usher/server/watch"
	"usher/telemetry"
	certs "usher/tls"
	"usher/vm"
)

// Options is what the command line knows.
type Options struct {
	File           string // configuration
	Version        string
	Stdout, Stderr io.Writer
}

// Server is one running edge.
type Server struct {
	options   Options
	started   time.Time
	level     *telemetry.Level
	log       zerolog.Logger
	access    *telemetry.Log
	metrics   *telemetry.Metrics
	certs     *certs.Certificates
	loop      *socket.Loop
	proxy     *proxy.Proxy
	listeners *listeners
	control   *control
	quic      *quic
	forwards  *forwards
	watcher   *watch.Watcher
	pools     *upstream.Set // the empty one that the first generation begins with
	own       *upstream.Own
	names     *names.Resolver
	checker   *health.Checker
	stickyKey []byte
	fleet     *vm.Fleet
	addressed map[string]bool // addresses that are VMs by themselves; replaced, never changed
	loader    config.Loader

	reloading sync.Mutex
	work      context.Context // of everything that runs until the end
	draining  atomic.Bool
	world     atomic.Pointer[world]
	last      atomic.Pointer[Result]
	told      atomic.Pointer[Result] // the last one that somebody who asked for it heard of
}

// Run serves until SIGTERM or SIGINT, then drains; a second one ends at once.
// SIGHUP reloads. It returns an error when it could not start.
func Run(ctx context.Context, o Options) error {
	// A log reader that died must not take the sites with it. It is not ignored,
	// since hooks and what they start would ignore it for ever.
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	defer signal.Stop(pipes)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	s, err := start(ctx, o)
	if err != nil {
		return err
	}
	return s.run(ctx, signals)
}

// start prepares everything that the first generation needs and publishes it.
func start(ctx context.Context, o Options) (*Server, error) {
	s := &Server{options: o, started: time.Now(), level: new(telemetry.Level)}
	s.log = telemetry.Logger(o.Stderr, s.level)
	s.watcher = watch.New(watch.Options{Fault: func(err error) {
		s.log.Warn().Err(err).Msg("no change notification: the configuration is polled")
	}})
	conf, problems := s.loader.Load(o.File)
	if conf == nil {
		return nil, startError(o.File, problems)
	}
	if err := s.prepare(conf); err != nil {
		return nil, err
	}
	return s, nil
}

// startError is one line: the first problem, and how many more there are.
func startError(file string, problems []config.Problem) error {
	if n := len(problems) - 1; n > 0 {
		return fmt.Errorf("%s (and %d more: `usher check -c %s` lists them)", refusal(problems), n, file)
	}
	return errors.New(refusal(problems))
}

func (s *Server) prepare(conf *config.Config) (err error) {
	if s.loop, err = socket.NewLoop(); err != nil {
		return err
	}
	if s.access, err = telemetry.Open(conf.Log.Access, telemetry.Options{Query: conf.Log.Query, Stdout: s.options.Stdout, Stderr: s.options.Stderr, Program: s.log}); err != nil {
		return err
	}
	s.level.Set(conf.Log.Level)
	s.metrics = telemetry.NewMetrics(s.options.Version, s.access)
	if s.certs, err = certs.New(certs.Options{StateDir: conf.StateDir, Email: conf.Email, Log: s.log}); err != nil {
		return err
	}
	s.metrics.Certificates = s.expiries
	s.proxy = proxy.New(proxy.Options{
		Certificates: s.certs, Tunnels: tunnel.New(s.loop), Access: s.access, Metrics: s.metrics, Log: s.log,
	})
	s.listeners = &listeners{bound: map[string]*listener{}, ending: map[string]chan struct{}{}, loop: s.loop, serve: s.serve, intake: s.proxy.NewIntake}
	s.own = ownOf(s.listeners)
	s.names = names.New(names.Options{Log: s.nameChanged})
	dialer := &socket.Dialer{Loop: s.loop}
	s.checker = health.New(health.Options{Dial: dialer.Dial})
	s.fleet = vm.New(vm.Options{StateDir: conf.StateDir, Log: s.happened})
	s.addressed = make(map[string]bool)
	for _, name := range s.fleet.Drained() {
		s.addressed[name] = true // harmless for those in [vms]
	}
	s.pools = upstream.NewSet(upstream.Dialer{Dial: dialer.Dial, DialFrom: dialer.DialTransparent, Begin: dialer.Begin, Finish: dialer.Finish, Names: s.names, Checker: s.checker})
	if s.stickyKey, err = stickyKey(conf.StateDir); err != nil {
		s.log.Warn().Err(err).Msg("sticky visitors change their VM when usher is started anew")
	}
	s.control = newControl(s)
	s.quic = &quic{
		proxy: s.proxy, metrics: s.metrics, stateDir: conf.StateDir, bound: map[string]*quicServer{},
		config: func() *h3.Config { return s.world.Load().h3 },
	}
	if s.forwards, err = newForwards(s); err != nil {
		return err
	}
	return s.takeSystemd()
}

// nameChanged says in the log what became of the DNS name of a VM.
func (s *Server) nameChanged(host string, now *names.Answer) {
	if now.Err != nil {
		s.log.Warn().Str("name", host).Int("kept", len(now.Endpoints)).Err(now.Err).Msg("a VM's name does not resolve")
		return
	}
	s.log.Info().Str("name", host).Int("addresses", len(now.Endpoints)).Msg("a VM's name resolves")
}

// takeSystemd keeps the sockets that systemd opened until the configuration
// asks for their addresses.
func (s *Server) takeSystemd() error {
	files, err := systemd.Listeners()
	if err != nil {
		return err
	}
	for _, f := range files {
		l, err := socket.ListenFile(f.File)
		f.File.Close()
		if err != nil {
			return fmt.Errorf("socket %q from systemd: %w", f.Name, err)
		}
		l.UseLoop(s.loop)
		s.listeners.given = append(s.listeners.given, l)
	}
	return nil
}

// expiries tells the metrics when certificates end, for as many sites as have
// series.
func (s *Server) expiries(yield func(host string, notAfter time.Time)) {
	for _, e := range s.certs.Expiries(telemetry.OwnLabel) {
		yield(e.Host, e.NotAfter)
	}
}

func (s *Server) serve(ctx context.Context, c *socket.Socket, from *listener) {
	switch {
	case from.forward:
		s.proxy.ServeForward(ctx, c, from.key())
	case from.tls:
		s.proxy.ServeTLS(ctx, c)
	default:
		s.proxy.ServePlain(ctx, c)
	}
}

// run owns the goroutines of the process from the first generation to the end.
func (s *Server) run(ctx context.Context, signals <-chan os.Signal) error {
	work, stop := context.WithCancel(ctx)
	serving, cut := context.WithCancel(work)
	s.work = serving
	var group sync.WaitGroup
	defer group.Wait()
	defer s.control.wait()
	defer stop()
	defer cut()
	group.Go(func() { s.loop.Run(work) })
	group.Go(func() { s.access.Run(work) })
	group.Go(func() { s.forwards.relay.Run(work) })
	group.Go(func() { s.names.Run(work) })
	group.Go(func() { s.checker.Run(work) })
	group.Go(func() { s.fleet.Run(work) })
	issuing, stopIssuing := context.WithCancel(work)
	defer stopIssuing()
	var issued sync.WaitGroup
	issued.Go(func() { s.certs.Run(issuing) })
	if r := s.Reload(serving, true); r.Refused != "" {
		stopIssuing()
		issued.Wait()
		return errors.New(r.Refused)
	}
	group.Go(func() { s.housekeeping(work) })
	watching, stopWatching := context.WithCancel(work)
	defer stopWatching()
	group.Go(func() { s.watch(watching) })
	for _, l := range s.listeners.given {
		s.log.Warn().Str("address", l.Addr().String()).Msg("a socket from systemd is not in [listen] and stays unserved")
	}
	systemd.Notify(systemd.Ready)
	s.wait(serving, signals)
	systemd.Notify(systemd.Stopping)
	stopWatching()
	// Nothing may order certificates once the listeners are closed: certmagic
	// would open its own.
	stopIssuing()
	issued.Wait()
	s.drain(signals, cut)
	return nil
}

// wait returns when usher is to stop.
func (s *Server) wait(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				s.log.Info().Str("signal", sig.String()).Msg("draining")
				return
			}
			if err := s.access.Reopen(); err != nil {
				s.log.Error().Err(err).Msg("access log")
			}
			systemd.Notify(systemd.Reloading)
			s.Reload(ctx, false)
			systemd.Notify(systemd.Ready)
		case <-ctx.Done():
			return
		}
	}
}

// watch reloads whenever a configuration file changes. What a reload opens
// outlives the watching.
func (s *Server) watch(ctx context.Context) {
	s.watcher.Run(ctx, s.watched, func() { s.Reload(s.work, false) })
}

// watched is what the configuration was read from, also one that was refused.
func (s *Server) watched() (files, dirs []string) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	return s.loader.Watched()
}

// manySites is from where a generation's memory is worth giving back at once.
const manySites = 10_000

// housekeeping closes connections to VMs that nobody uses, and gives memory
// back to the system after a large generation was built or replaced: while
// nothing allocates, the collector would not come round to it.
func (s *Server) housekeeping(ctx context.Context) {
	t := time.NewTicker(10 * time.Second)
	defer t.Stop()
	var last uint64 // generation; the world itself would be kept in memory
	sites := 0      // of that
	for {
		select {
		case now := <-t.C:
			w := s.world.Load()
			w.snapshot.Pools.Reap(now)
			if w.snapshot.Generation != last && max(sites, len(w.sites)) >= manySites {
				debug.FreeOSMemory()
			}
			last, sites = w.snapshot.Generation, len(w.sites)
		case <-ctx.Done():
			return
		}
	}
}

// lastWords is how long connections that were cut may take to end and to be
// logged.
const lastWords = time.Second

// drain stops accepting, lets what is under way end, and cuts what is left
// after the drain time or at a second signal.
func (s *Server) drain(signals <-chan os.Signal, cut context.CancelFunc) {
	s.stopReloading()
	s.quic.drain()
	s.forwards.relay.Drain()
	s.listeners.close()
	s.proxy.Drain()
	done := make(chan struct{})
	go func() {
		s.listeners.conns.Wait()
		s.quic.wait()
		s.proxy.WaitTunnels()
		<-s.forwards.relay.Drained()
		close(done)
	}()
	if ended(done, signals, s.world.Load().config.Timeouts.Drain) {
		return
	}
	s.proxy.Abort("usher stops")
	cut()
	ended(done, signals, lastWords)
}

// stopReloading waits for a reload under way and has the next ones refused:
// they would listen again.
func (s *Server) stopReloading() {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.draining.Store(true)
}

// ended waits for done and reports false when the time is over or a signal to
// stop comes before.
func ended(done <-chan struct{}, signals <-chan os.Signal, limit time.Duration) bool {
	over := time.After(limit)
	for {
		select {
		case <-done:
			return true
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				return false
			}
		case <-over:
			return false
		}
	}
}
