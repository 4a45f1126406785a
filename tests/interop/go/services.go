package main

import (
	"fmt"
	"strings"

	machinery "github.com/RichardKnop/machinery/v2"
	backends "github.com/RichardKnop/machinery/v2/backends/iface"
	brokers "github.com/RichardKnop/machinery/v2/brokers/iface"
	"github.com/RichardKnop/machinery/v2/config"
	eagerlock "github.com/RichardKnop/machinery/v2/locks/eager"
)

// options say which services to use; what they mean beyond the scheme is up to the service's own file.
type options struct {
	client, broker, backend, queue string
	db, resultsExpireIn            int
}

type brokerMaker func(cnf *config.Config, address string, o options) (brokers.Broker, error)
type backendMaker func(cnf *config.Config, address string, o options) (backends.Backend, error)

// A service is one file that enters its schemes here from its init function, and fills its own section of
// the configuration when it is chosen. The address is what follows "scheme://".
var (
	brokerMakers  = map[string]brokerMaker{}
	backendMakers = map[string]backendMaker{}
)

func newServer(o options) (*machinery.Server, error) {
	cnf := &config.Config{
		Broker:          o.broker,
		ResultBackend:   o.backend,
		DefaultQueue:    o.queue,
		ResultsExpireIn: o.resultsExpireIn,
	}
	scheme, address := splitAddress(o.broker, o.client)
	makeBroker, found := brokerMakers[scheme]
	if !found {
		return nil, fmt.Errorf("no broker for the scheme %q", scheme)
	}
	broker, err := makeBroker(cnf, address, o)
	if err != nil {
		return nil, err
	}
	scheme, address = splitAddress(o.backend, o.client)
	makeBackend, found := backendMakers[scheme]
	if !found {
		return nil, fmt.Errorf("no result backend for the scheme %q", scheme)
	}
	backend, err := makeBackend(cnf, address, o)
	if err != nil {
		return nil, err
	}
	return machinery.NewServer(cnf, broker, backend, eagerlock.New()), nil
}

func splitAddress(text, schemeOfBare string) (scheme, address string) {
	if scheme, address, found := strings.Cut(text, "://"); found {
		return scheme, address
	}
	return schemeOfBare, text
}
