// SPDX-License-Identifier: GPL-2.0-or-later

// usage: proxy MODE LISTEN TARGET: two ways in which proxies of Go carry HTTP. headers: reads the client's first
// header by itself, sends it on, and lets io.Copy carry the rest both ways, which is splice(2). reverse: what net/http/httputil
// does.
package main

import (
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

// The header is read byte by byte, so that all that comes after it is left for splice(2).
func readHeader(from net.Conn) ([]byte, error) {
	var head []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if _, err := from.Read(one); err != nil {
			return nil, err
		}
		head = append(head, one[0])
	}
	return head, nil
}

func carry(to, from *net.TCPConn, done chan<- struct{}) {
	io.Copy(to, from)
	to.CloseWrite()
	done <- struct{}{}
}

func serve(client *net.TCPConn, target string) {
	defer client.Close()
	head, err := readHeader(client)
	if err != nil {
		return
	}
	conn, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	if _, err := server.Write(head); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	go carry(server, client, done)
	go carry(client, server, done)
	<-done
	<-done
}

func headers(listen, target string) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go serve(conn.(*net.TCPConn), target)
	}
}

func main() {
	mode, listen, target := os.Args[1], os.Args[2], os.Args[3]
	if mode == "headers" {
		log.Fatal(headers(listen, target))
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target})
	log.Fatal(http.ListenAndServe(listen, proxy))
}
