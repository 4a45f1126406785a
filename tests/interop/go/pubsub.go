package main

import (
	"fmt"
	"strings"

	pubsubbroker "github.com/RichardKnop/machinery/v2/brokers/gcppubsub"
	brokers "github.com/RichardKnop/machinery/v2/brokers/iface"
	"github.com/RichardKnop/machinery/v2/config"
)

// Pub/Sub's address is "project/subscription"; the topic is the queue. Google's client finds the service by PUBSUB_EMULATOR_HOST.
func init() {
	brokerMakers["gcppubsub"] = func(cnf *config.Config, address string, _ options) (brokers.Broker, error) {
		project, subscription, found := strings.Cut(address, "/")
		if !found {
			return nil, fmt.Errorf("no subscription in the address %q", address)
		}
		return pubsubbroker.New(cnf, project, subscription)
	}
}
