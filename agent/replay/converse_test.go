package replay_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm/watch"
)

// converse is the host's side of a connection, until that ends.
func converse(ctx context.Context, conn net.Conn, stream *watch.Stream) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			var a guest.FileAnswer
			if json.Unmarshal(lines.Bytes(), &a) != nil {
				return
			}
			stream.Answer(a)
		}
	}()
	stream.Connect()
	batches := json.NewEncoder(conn)
	for {
		b, err := stream.Next(ctx)
		if err != nil || batches.Encode(b) != nil {
			return
		}
	}
}
