package main

import (
	"strings"

	backends "github.com/RichardKnop/machinery/v2/backends/iface"
	memcachebackend "github.com/RichardKnop/machinery/v2/backends/memcache"
	"github.com/RichardKnop/machinery/v2/config"
)

func init() {
	backendMakers["memcache"] = func(cnf *config.Config, address string, _ options) (backends.Backend, error) {
		return memcachebackend.New(cnf, strings.Split(address, ",")), nil
	}
}
