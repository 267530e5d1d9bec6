// A service: TLS and plain HTTP, files and uploads, a client of its own, profiling, a configuration that is read again.
package main

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

var name atomic.Value

func read() {
	text, err := os.ReadFile("/etc/debian_version")
	if err != nil {
		log.Print(err)
	}
	name.Store(string(text))
}

// Keeps what is sent in a file, which appears when it is whole.
func store(w http.ResponseWriter, r *http.Request) {
	part, _, err := r.FormFile("file")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer part.Close()
	file, err := os.CreateTemp("/tmp", "upload-")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer os.Remove(file.Name())
	size, err := io.Copy(file, part)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = file.Close()
	}
	if err == nil {
		os.MkdirAll("/tmp/store", 0o755)
		err = os.Rename(file.Name(), filepath.Join("/tmp/store", "latest"))
	}
	fmt.Fprintln(w, size, err)
}

// Asks another service by its name.
func proxy(w http.ResponseWriter, r *http.Request) {
	ctx, done := context.WithTimeout(r.Context(), 2*time.Second)
	defer done()
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, r.URL.Query().Get("to"), nil)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	answer, err := client.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	w.WriteHeader(answer.StatusCode)
	io.Copy(w, answer.Body)
}

func main() {
	if os.Args[1] == "probe" {
		answer, err := http.Get("http://" + os.Args[2] + "/")
		if err != nil {
			os.Exit(1)
		}
		fmt.Println(answer.StatusCode)
		return
	}
	logged, err := os.OpenFile("/tmp/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	log.SetOutput(io.MultiWriter(os.Stderr, logged))
	read()
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "served %s", name.Load()) })
	mux.HandleFunc("/store", store)
	mux.HandleFunc("/proxy", proxy)
	mux.HandleFunc("/json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		packed := gzip.NewWriter(w)
		json.NewEncoder(packed).Encode(map[string]any{"now": time.Now(), "from": r.RemoteAddr})
		packed.Close()
	})
	mux.Handle("/files/", http.StripPrefix("/files/", http.FileServer(http.Dir("/tmp/store"))))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	secure := &http.Server{Addr: os.Args[1], Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	plain := &http.Server{Addr: os.Args[2], Handler: mux}
	go func() { log.Print(secure.ListenAndServeTLS("/etc/it.pem", "/etc/it.pem")) }()
	go func() { log.Print(plain.ListenAndServe()) }()
	go count()
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGHUP)
	for one := range told {
		if one != syscall.SIGHUP {
			break
		}
		read()
	}
	wait, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	secure.Shutdown(wait)
	plain.Shutdown(wait)
}

// What is counted goes to a collector, there or not.
func count() {
	for range time.Tick(200 * time.Millisecond) {
		if counts, err := net.Dial("udp", "127.0.0.1:8125"); err == nil {
			fmt.Fprint(counts, "up:1|c")
			counts.Close()
		}
	}
}
