// A registry with the referrers API, in memory, on an address of this host: what docker-registry 2.8 does not have.
//
//	registry [-cert FILE -key FILE] [-user NAME:PASSWORD] ADDRESS
package main

import (
	"crypto/subtle"
	"flag"
	"log"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	cert := flag.String("cert", "", "certificate, for TLS")
	key := flag.String("key", "", "its key")
	user := flag.String("user", "", "NAME:PASSWORD that every request must show")
	flag.Parse()
	log := log.New(os.Stderr, "", 0)
	handler := registry.New(registry.Logger(log), registry.WithReferrersSupport(true))
	if *user != "" {
		handler = guarded(handler, *user)
	}
	if *cert != "" {
		log.Fatal(http.ListenAndServeTLS(flag.Arg(0), *cert, *key, handler))
	}
	log.Fatal(http.ListenAndServe(flag.Arg(0), handler))
}

func guarded(handler http.Handler, user string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(name+":"+password), []byte(user)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	})
}
