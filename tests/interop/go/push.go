package main

import (
	"hash/crc32"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	ws "weightstream/v1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type begun struct {
	MissingBytes uint64 `json:"missing_bytes"`
	Resumed      bool   `json:"resumed"`
}

type pushed struct {
	// One entry for each time that the update was begun: a cut connection adds one.
	Begins []begun `json:"begins"`
	Path   string  `json:"path"`
}

// push brings a checkpoint to the server, and begins again where the connection is lost: the answer to BeginUpdate
// says what is still missing.
func push(server ws.WeightStreamClient, model string, version uint64, folder string) (*pushed, error) {
	tensors, err := readCheckpoint(folder)
	if err != nil {
		return nil, err
	}
	request := &ws.BeginUpdateRequest{
		Model:    model,
		Version:  version,
		Tensors:  specsOf(tensors),
		Metadata: map[string]string{"format": "pt"},
		SourceId: folder,
	}
	result := &pushed{}
	deadline := time.Now().Add(transferLimit)
	for {
		update, err := begin(server, request)
		if err != nil {
			return nil, err
		}
		result.Begins = append(result.Begins, begun{update.MissingBytes, update.Resumed})
		err = pushMissing(server, update, tensors)
		if err == nil {
			return result, commit(server, model, update.UpdateId, result)
		}
		if status.Code(err) != codes.Unavailable || time.Now().After(deadline) {
			return nil, err
		}
	}
}

func begin(server ws.WeightStreamClient, request *ws.BeginUpdateRequest) (*ws.BeginUpdateResponse, error) {
	ctx, cancel := within(callLimit)
	defer cancel()
	return server.BeginUpdate(ctx, request, grpc.WaitForReady(true))
}

func commit(server ws.WeightStreamClient, model, update string, result *pushed) error {
	ctx, cancel := within(callLimit)
	defer cancel()
	committed, err := server.CommitUpdate(ctx, &ws.CommitUpdateRequest{Model: model, UpdateId: update})
	if err == nil {
		result.Path = committed.Path
	}
	return err
}

func pushMissing(server ws.WeightStreamClient, update *ws.BeginUpdateResponse, tensors map[string]tensor) error {
	ctx, cancel := within(transferLimit)
	defer cancel()
	stream, err := server.Push(ctx)
	if err != nil {
		return err
	}
	for _, missing := range update.Missing {
		each := tensors[missing.Name]
		for _, part := range missing.Ranges {
			for begin := part.Begin; begin < part.End; begin += update.BucketLimitBytes {
				end := begin + update.BucketLimitBytes
				if end > part.End {
					end = part.End
				}
				chunk := chunkOf(update.UpdateId, each, begin, end)
				if err := stream.Send(chunk); err != nil {
					// Send says only that the stream has ended; the reason comes with the reply.
					_, err = stream.CloseAndRecv()
					return err
				}
			}
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

func chunkOf(update string, from tensor, begin, end uint64) *ws.WeightChunk {
	data := from.data[begin:end]
	checksum := crc32.Checksum(data, castagnoli)
	return &ws.WeightChunk{
		UpdateId: update,
		Name:     from.spec.Name,
		Dtype:    from.spec.Dtype,
		Shape:    from.spec.Shape,
		Offset:   begin,
		Crc32C:   &checksum,
		Data:     data,
	}
}
