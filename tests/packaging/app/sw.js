import { attach } from 'landfall/service-worker';

attach(self, { budgetMs: 100_000 });
