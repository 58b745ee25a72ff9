package api

import (
	"fmt"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

// BenchmarkJobPage makes the JSON of a page of 50 jobs, as a list does, without HTTP.
func BenchmarkJobPage(b *testing.B) {
	jobs := make([]saltpeter.JobStatus, 50)
	for i := range jobs {
		jobs[i].Job = &saltpeter.Job{
			Name: fmt.Sprintf("job%02d", i), Group: "main", Command: "true", Targets: []string{"*"}, TargetType: "glob",
			Schedule: saltpeter.Schedule{Sec: "0", Min: fmt.Sprint(i), Hour: "*/2", Dom: "*", Mon: "*", Dow: "mon-fri", Year: "*", Timezone: "Europe/Bucharest"},
		}
		jobs[i].LastRun = &saltpeter.Run{ID: "job_1", Job: jobs[i].Job.Name, State: saltpeter.RunOK, Counts: saltpeter.Counts{saltpeter.OK: 3}}
	}
	now := time.Date(2026, 11, 23, 7, 5, 0, 0, time.UTC)
	var s Server
	page := func(b *testing.B, now time.Time) {
		p := textPage{}
		for i := range jobs {
			t, err := s.jobText(&jobs[i], now)
			if err != nil {
				b.Fatal(err)
			}
			p.items = append(p.items, t)
		}
		if _, _, err := p.encode(); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("as before", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			page(b, now)
		}
	})
	b.Run("all changed", func(b *testing.B) { // as every page was made before its items were remembered
		b.ReportAllocs()
		for b.Loop() {
			for i := range jobs {
				jobs[i].Skipped++
			}
			page(b, now)
		}
	})
}
