// The attendance page.

import { startPage } from '../shell/page.js';
import { homeScreen } from './home.js';

startPage('attendance', homeScreen);
