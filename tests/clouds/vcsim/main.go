// vcsim: VMware's vCenter simulator (govmomi), as the tests of VSphereCloud need it.
//
// Debian ships the simulator as a library; this is its program. Beside the library it keeps what is
// uploaded over NFC leases (FOLDER/NAME), which the simulator itself throws away, so that a test can
// compare it, and it breaks uploads off while the file FOLDER/break-uploads exists.
//
// Usage: vcsim FOLDER; user and password are the first two lines of standard input. The first line
// of output is the API's URL. It ends when standard input does.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
)

type kept struct {
	io.Reader
	io.Closer
}

// A certificate for 127.0.0.1, signed by an authority of our own, which comes back as PEM. The
// library's own certificate is its own authority, and strict clients refuse such a server.
func certificate() (tls.Certificate, []byte, error) {
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vcsim's authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	signed, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "vcsim"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	own, err := x509.CreateCertificate(rand.Reader, leaf, authority, &key.PublicKey, authorityKey)
	written := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	return tls.Certificate{Certificate: [][]byte{own}, PrivateKey: key}, written, err
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	folder := os.Args[1]
	input := bufio.NewReader(os.Stdin)
	user, _ := input.ReadString('\n')
	password, _ := input.ReadString('\n')

	model := simulator.VPX()
	fail(model.Create())
	own, authority, err := certificate()
	fail(err)
	fail(os.WriteFile(filepath.Join(folder, "ca.pem"), authority, 0o644))
	login := url.UserPassword(strings.TrimSpace(user), strings.TrimSpace(password))
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: login}
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{own}}
	server := model.Service.NewServer()
	simulated := server.Config.Handler
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/nfc/") && r.Method != http.MethodGet {
			if _, err := os.Stat(filepath.Join(folder, "break-uploads")); err == nil {
				io.CopyN(io.Discard, r.Body, 64<<10)
				panic(http.ErrAbortHandler)
			}
			if file, err := os.Create(filepath.Join(folder, filepath.Base(r.URL.Path))); err == nil {
				defer file.Close()
				r.Body = kept{io.TeeReader(r.Body, file), r.Body}
			}
		}
		simulated.ServeHTTP(w, r)
	})
	fmt.Println(server.URL.Scheme + "://" + server.URL.Host + server.URL.Path)
	io.Copy(io.Discard, input)
}
