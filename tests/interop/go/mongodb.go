package main

import (
	"flag"

	backends "github.com/RichardKnop/machinery/v2/backends/iface"
	mongobackend "github.com/RichardKnop/machinery/v2/backends/mongo"
	"github.com/RichardKnop/machinery/v2/config"
)

// mongoSection is how a Go program names a database; the one in a URL is not heeded.
var mongoSection config.MongoDBConfig

func init() {
	flag.StringVar(&mongoSection.Database, "mongodb-database", "machinery", "name of the MongoDB database")
	backendMakers["mongodb"] = func(cnf *config.Config, address string, _ options) (backends.Backend, error) {
		cnf.ResultBackend = "mongodb://" + address
		cnf.MongoDB = &mongoSection
		return mongobackend.New(cnf)
	}
}
